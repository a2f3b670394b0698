-- name: insert_venue
INSERT INTO venues (id, name, address, city, capacity, section_config)
VALUES ($1, $2, $3, $4, $5, $6::jsonb);

-- name: find_venue
SELECT id, name, address, city, capacity, section_config
  FROM venues
 WHERE id = $1;

-- name: list_venues
SELECT id, name, address, city, capacity, section_config
  FROM venues
 ORDER BY city, name;

-- name: understand_words
-- What was typed, word by word: is it a word, does one begin with it, and if neither, which are nearest to it? In the order of
-- search_words, the first word that is not before it is the word itself, or begins with it, or none does.
SELECT typed.word, next.word IS NOT NULL AND next.word = typed.word AS is_word,
       coalesce(starts_with(next.word, typed.word), false) AS begins_a_word,
       CASE WHEN starts_with(next.word, typed.word) THEN '{}' ELSE ARRAY(SELECT nearest_words(typed.word, $3)) END AS nearest
  FROM regexp_split_to_table(searchable($1), ' ') WITH ORDINALITY AS typed (word, position)
  LEFT JOIN LATERAL (
        SELECT known.word FROM search_words AS known WHERE known.word >= typed.word ORDER BY known.word LIMIT 1
       ) AS next ON true
 WHERE typed.word <> ''
 ORDER BY typed.position
 LIMIT $2;

-- name: find_venue_ids
-- The houses an event may be in. The distance is the great circle's; the latitudes alone leave few to compute it for, and stay
-- right at the poles and at the date line. 111.19 km are one degree.
SELECT id
  FROM venues
 WHERE ($1::uuid IS NULL OR id = $1)
   AND ($2::text IS NULL OR lower(city) = lower($2))
   AND ($3::double precision IS NULL OR (
           latitude BETWEEN $3 - $5::double precision / 111.19 AND $3 + $5 / 111.19
       AND 2 * 6371.0 * asin(least(1.0, sqrt(
               sin(radians(latitude - $3) / 2) ^ 2
             + cos(radians($3)) * cos(radians(latitude)) * sin(radians(longitude - $4::double precision) / 2) ^ 2))) <= $5));

-- name: page_by_date
-- After the place ($10, $11), if there is one; so do they all.
SELECT id
  FROM find_in_catalogue($1::text::tsquery, $2, $3, $4, $5, $6, $7, $8, $9)
 WHERE $10::timestamptz IS NULL OR (event_date, id) > ($10, $11::uuid)
 ORDER BY event_date, id
 LIMIT $12;

-- name: page_by_date_descending
SELECT id
  FROM find_in_catalogue($1::text::tsquery, $2, $3, $4, $5, $6, $7, $8, $9)
 WHERE $10::timestamptz IS NULL OR (event_date, id) < ($10, $11::uuid)
 ORDER BY event_date DESC, id DESC
 LIMIT $12;

-- name: page_by_price
SELECT id
  FROM find_in_catalogue($1::text::tsquery, $2, $3, $4, $5, $6, $7, $8, $9)
 WHERE $10::numeric IS NULL OR (price_min, id) > ($10, $11::uuid)
 ORDER BY price_min, id
 LIMIT $12;

-- name: page_by_price_descending
SELECT id
  FROM find_in_catalogue($1::text::tsquery, $2, $3, $4, $5, $6, $7, $8, $9)
 WHERE $10::numeric IS NULL OR (price_min, id) < ($10, $11::uuid)
 ORDER BY price_min DESC, id DESC
 LIMIT $12;

-- name: page_by_name
SELECT id
  FROM find_in_catalogue($1::text::tsquery, $2, $3, $4, $5, $6, $7, $8, $9)
 WHERE $10::text IS NULL OR (lower(name), id) > (lower($10::text), $11::uuid)
 ORDER BY lower(name), id
 LIMIT $12;

-- name: page_by_sale_start
SELECT id
  FROM find_in_catalogue($1::text::tsquery, $2, $3, $4, $5, $6, $7, $8, $9)
 WHERE $10::timestamptz IS NULL OR (on_sale_date, id) > ($10, $11::uuid)
 ORDER BY on_sale_date, id
 LIMIT $12;

-- name: page_by_relevance
-- Three tiers: every word whole and in the name of the event or the artist; every word whole; all the rest. Within each by
-- date. So nothing is ranked that is not shown: a page of a word that half of the catalogue has is read off an index.
-- After the place ($10, $11) in the tier $12, which is -1 before the first page.
(SELECT id, 0 AS tier
   FROM find_in_catalogue($14::text::tsquery, $2, $3, $4, $5, $6, $7, $8, $9)
  WHERE ($12::integer < 0 OR ($12 = 0 AND (event_date, id) > ($10::timestamptz, $11::uuid)))
    AND name_vector @@ $14::text::tsquery
  ORDER BY event_date, id
  LIMIT $13)
 UNION ALL
(SELECT id, 1 AS tier
   FROM find_in_catalogue($14::text::tsquery, $2, $3, $4, $5, $6, $7, $8, $9)
  WHERE ($12::integer < 1 OR ($12 = 1 AND (event_date, id) > ($10::timestamptz, $11::uuid)))
    AND NOT name_vector @@ $14::text::tsquery
  ORDER BY event_date, id
  LIMIT $13)
 UNION ALL
(SELECT id, 2 AS tier
   FROM find_in_catalogue($1::text::tsquery, $2, $3, $4, $5, $6, $7, $8, $9)
  WHERE ($12::integer < 2 OR ($12 = 2 AND (event_date, id) > ($10::timestamptz, $11::uuid)))
    AND NOT search_vector @@ $14::text::tsquery
  ORDER BY event_date, id
  LIMIT $13)
 LIMIT $13;

-- name: list_cards
SELECT event.id, event.name, event.artist, event.category, event.event_date, event.on_sale_date, event.off_sale_date,
       event.status, event.high_demand, event.currency, event.price_min, event.price_max, event.ticket_limit,
       inventory.capacity, venue.id AS venue_id, venue.name AS venue_name, venue.city AS venue_city,
       venue.country AS venue_country, venue.time_zone AS venue_time_zone
  FROM events AS event
  JOIN event_inventory AS inventory ON inventory.event_id = event.id
  JOIN venues AS venue ON venue.id = event.venue_id
 WHERE event.id = ANY($1::uuid[]);

-- name: find_details
SELECT event.id, event.name, event.artist, event.category, event.event_date, event.on_sale_date, event.off_sale_date,
       event.status, event.high_demand, event.currency, event.price_min, event.price_max, event.ticket_limit,
       event.description, event.section_config, event.version, event.presale_date, event.fee_rate, event.tax_rate,
       event.refund_until, event.refund_fee_rate, event.transfers, event.resales, event.rotating_codes,
       inventory.capacity, venue.id AS venue_id,
       venue.name AS venue_name, venue.city AS venue_city, venue.country AS venue_country,
       venue.time_zone AS venue_time_zone, venue.address AS venue_address, venue.latitude AS venue_latitude,
       venue.longitude AS venue_longitude
  FROM events AS event
  JOIN event_inventory AS inventory ON inventory.event_id = event.id
  JOIN venues AS venue ON venue.id = event.venue_id
 WHERE event.id = $1;

-- name: page_of_venues
SELECT id, name, address, city, country, time_zone, latitude, longitude, capacity
  FROM venues
 WHERE ($1::text IS NULL OR search_vector @@ $1::text::tsquery)
   AND ($2::text IS NULL OR lower(city) = lower($2))
   AND ($3::text IS NULL OR (lower(city), lower(name), id) > (lower($3), lower($4::text), $5::uuid))
 ORDER BY lower(city), lower(name), id
 LIMIT $6;

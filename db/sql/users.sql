-- name: insert_user
-- No record when the address is taken: two registrations at once cannot both pass a check made before.
INSERT INTO users (id, email, password_hash, name)
VALUES ($1, $2, $3, $4)
    ON CONFLICT (email) DO NOTHING
RETURNING id, email, name, role, created_at;

-- name: user_by_email
SELECT id, email, name, role, created_at, password_hash
  FROM users
 WHERE email = $1;

-- name: user_by_id
SELECT id, email, name, role, created_at
  FROM users
 WHERE id = $1;

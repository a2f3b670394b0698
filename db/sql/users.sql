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

-- name: made_after
SELECT id
  FROM users
 WHERE id = ANY ($1::uuid[]) AND created_at > $2;

-- name: lock_first_admin
-- Any number will do, as long as it is always this one: of two who ask at once the second finds an administrator.
SELECT pg_advisory_xact_lock(7262013);

-- name: make_first_admin
-- An account that exists keeps its password and its name. xmax is 0 in a record that this statement has inserted.
INSERT INTO users (id, email, password_hash, name, role)
SELECT $1, $2, $3, $4, 'admin'
 WHERE NOT EXISTS (SELECT FROM users WHERE role = 'admin')
    ON CONFLICT (email) DO UPDATE
   SET role = 'admin', updated_at = now()
RETURNING id, email, name, role, created_at, xmax = 0 AS is_new;

-- name: list_admins
SELECT id, email, name, role, created_at
  FROM users
 WHERE role = 'admin'
 ORDER BY created_at, id;

-- name: lock_user_by_email
SELECT id, email, name, role, created_at
  FROM users
 WHERE email = $1
   FOR UPDATE;

-- name: make_scanner
-- Somebody may have registered with that address since we looked; an administrator stays one.
INSERT INTO users AS u (id, email, password_hash, name, role)
VALUES ($1, $2, $3, $4, 'scanner')
    ON CONFLICT (email) DO UPDATE
   SET role = CASE u.role WHEN 'admin' THEN 'admin' ELSE 'scanner' END, updated_at = now()
RETURNING id, email, name, role, created_at;

-- name: end_scanner
UPDATE users
   SET role = 'user', updated_at = now()
 WHERE id = $1 AND role = 'scanner'
RETURNING id, email, name, role, created_at;

-- name: list_scanners
SELECT id, email, name, role, created_at
  FROM users
 WHERE role = 'scanner'
 ORDER BY created_at, id;

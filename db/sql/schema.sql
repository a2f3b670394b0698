-- name: list_indexes
-- What PostgreSQL prints of them is the same from 15 on; the schema's own name is left out.
SELECT indexname AS name, replace(indexdef, ' ON public.', ' ON ') AS definition
  FROM pg_indexes
 WHERE schemaname = 'public'
 ORDER BY indexname;

-- name: list_constraints
-- PostgreSQL 18 also lists NOT NULL among them, which earlier versions do not.
SELECT conrelid::regclass || '.' || conname AS name,
       replace(pg_get_constraintdef(oid), ' NOT VALID', '') AS definition
  FROM pg_constraint
 WHERE connamespace = 'public'::regnamespace AND contype IN ('c', 'f', 'x')
 ORDER BY 1;

-- name: list_invalid_indexes
SELECT indexrelid::regclass::text AS name
  FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
 WHERE relnamespace = 'public'::regnamespace AND NOT (indisvalid AND indisready)
 ORDER BY 1;

-- name: list_unproven_constraints
SELECT conrelid::regclass || '.' || conname AS name
  FROM pg_constraint
 WHERE connamespace = 'public'::regnamespace AND NOT convalidated
 ORDER BY 1;

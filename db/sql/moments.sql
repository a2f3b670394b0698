-- name: let_the_reader_take_its_time
-- For this transaction only. A client that reads slowly keeps us waiting between two statements, and a sort of everything
-- takes longer than any statement of a sale may.
SELECT set_config('idle_in_transaction_session_timeout', $1, true), set_config('statement_timeout', $2, true);

-- Places for wheelchairs, and the seats beside them, are offered to whoever asked for one and to nobody else.
ALTER TABLE waiting_list ADD COLUMN accessible boolean NOT NULL DEFAULT false;

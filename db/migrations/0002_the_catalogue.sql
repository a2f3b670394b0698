-- The catalogue: what a show is, where it is, how to find it, and which kinds of places its house has.
--
-- All extensions are trusted: the owner of a database may create them.
CREATE EXTENSION IF NOT EXISTS fuzzystrmatch;
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE EXTENSION IF NOT EXISTS unaccent;

-- What is written and what is typed, made alike: words of lower-case letters and digits without accents, one blank between
-- two. Nothing else is left in it, so none of it can mean anything in a tsquery. (Guns N' Roses: guns n roses.)
CREATE FUNCTION searchable(written text) RETURNS text LANGUAGE sql STABLE STRICT PARALLEL SAFE AS $$
    SELECT trim(regexp_replace(translate(lower(unaccent(normalize(written, NFKC))), '''’`', ''), '[^[:alnum:]]+', ' ', 'g'))
$$;

ALTER TABLE venues
    ADD COLUMN country      text NOT NULL DEFAULT '',
    -- IANA name; a show begins at its venue's time, wherever the buyer is.
    ADD COLUMN time_zone    text NOT NULL DEFAULT 'UTC',
    ADD COLUMN latitude     double precision CHECK (latitude BETWEEN -90 AND 90),
    ADD COLUMN longitude    double precision CHECK (longitude BETWEEN -180 AND 180),
    -- Goes up with every change; the ETag, and what If-Match is compared with.
    ADD COLUMN version      integer NOT NULL DEFAULT 1,
    -- Of the request that made it: a retry with the same Idempotency-Key finds it, another body under that key is told so.
    ADD COLUMN request_hash text NOT NULL DEFAULT '',
    ADD COLUMN updated_at   timestamptz NOT NULL DEFAULT now(),
    -- Name and city, searchable; written with the venue.
    ADD COLUMN search_text   text NOT NULL DEFAULT '',
    ADD COLUMN search_vector tsvector GENERATED ALWAYS AS (to_tsvector('simple', search_text)) STORED,
    ADD CHECK ((latitude IS NULL) = (longitude IS NULL));
UPDATE venues SET search_text = searchable(name || ' ' || city);
CREATE INDEX venues_by_city ON venues (lower(city), lower(name), id);
CREATE INDEX venues_by_place ON venues (latitude, longitude);
CREATE INDEX venues_by_words ON venues USING gin (search_vector);

ALTER TABLE events
    ADD COLUMN description    text NOT NULL DEFAULT '',
    -- The house as it was when the event was made: the venue may be rebuilt, these seats stay where they are.
    ADD COLUMN section_config jsonb,
    -- Of the seats, everything included; what a buyer is shown first and pays last.
    ADD COLUMN price_min      numeric(10, 2) NOT NULL DEFAULT 0,
    ADD COLUMN price_max      numeric(10, 2) NOT NULL DEFAULT 0,
    ADD COLUMN version        integer NOT NULL DEFAULT 1,
    ADD COLUMN request_hash   text NOT NULL DEFAULT '',
    -- Searchable, two lines: name and artist, then venue and city. Written with the event and with its venue.
    ADD COLUMN search_text    text NOT NULL DEFAULT '',
    ADD COLUMN search_vector  tsvector GENERATED ALWAYS AS (to_tsvector('simple', search_text)) STORED,
    -- Of the first line: who types Berlin may mean the band, and gets it before the city.
    ADD COLUMN name_vector    tsvector GENERATED ALWAYS AS (
        to_tsvector('simple', split_part(search_text, E'\n', 1))) STORED;

UPDATE events e
   SET section_config = v.section_config,
       search_text = searchable(e.name || ' ' || e.artist) || E'\n' || searchable(v.name || ' ' || v.city)
  FROM venues v
 WHERE v.id = e.venue_id;
UPDATE events e
   SET price_min = p.low, price_max = p.high
  FROM (SELECT event_id, min(price) AS low, max(price) AS high FROM seats GROUP BY event_id) AS p
 WHERE p.event_id = e.id;

CREATE INDEX events_by_words ON events USING gin (search_vector);
CREATE INDEX events_by_words_of_name ON events USING gin (name_vector);
-- The orders in which the catalogue is paged; the id makes every place in them unique.
CREATE INDEX events_by_date ON events (event_date, id);
-- With the date of the show, so that those of the past, whose sales began first, are passed over without being looked at.
CREATE INDEX events_by_sale_start ON events (on_sale_date, id, event_date);
CREATE INDEX events_by_price ON events (price_min, id);
CREATE INDEX events_by_highest_price ON events (price_max);
CREATE INDEX events_by_name ON events (lower(name), id);
CREATE INDEX events_by_category ON events (category, event_date, id);
CREATE INDEX events_by_status ON events (status, event_date, id);
CREATE INDEX events_by_artist ON events (lower(artist), event_date, id);
DROP INDEX events_by_venue;
CREATE INDEX events_by_venue ON events (venue_id, event_date, id);

-- Every word of every search_text. A word that is not in here was mistyped, and the ones nearest to it are looked for instead.
-- Words are never taken out: one that no event has any more finds nothing, as it should. In the order "C" all the words that
-- begin alike stand together, right behind what they begin with.
CREATE TABLE search_words (word text COLLATE "C" PRIMARY KEY);
CREATE INDEX search_words_by_likeness ON search_words USING gin (word gin_trgm_ops);
INSERT INTO search_words (word)
SELECT lexeme FROM events, unnest(tsvector_to_array(search_vector)) AS lexeme
 UNION
SELECT lexeme FROM venues, unnest(tsvector_to_array(search_vector)) AS lexeme;

-- The words that were probably meant: first by shared trigrams, which an index finds, then by how many letters differ. Two
-- letters that changed places are two; a letter in four may be wrong, and three at most: "berln" is Berlin, but "coldplay" is
-- not cold. Only the nearest of these are given. The usual threshold of 0.3 would miss "brelin".
CREATE FUNCTION nearest_words(typed text, at_most integer) RETURNS SETOF text LANGUAGE sql STABLE PARALLEL SAFE
SET pg_trgm.similarity_threshold = 0.2 AS $$
    WITH alike AS (
        SELECT word, levenshtein_less_equal(word, typed, 3) AS distance, similarity(word, typed) AS likeness
          FROM search_words
         WHERE word % typed AND length(word) <= 100 AND length(typed) BETWEEN 3 AND 100
    )
    SELECT word
      FROM alike
     WHERE distance <= least(3, (length(typed) + 4) / 4)
       AND distance = (SELECT min(distance) FROM alike)
     ORDER BY likeness DESC, word
     LIMIT at_most
$$;

-- The catalogue's filters, each of which may be null; said once for all the orders in which it is paged. PostgreSQL puts the
-- query in the place of the call, so every index counts; what is null is gone before it plans (see db/catalogue.py).
-- Cancelled events are found by their status only, those of the past by dates or as completed. The words are asked for twice:
-- PostgreSQL takes two common words for independent of each other, expects a page full of them at once, and reads the whole
-- catalogue by date when no event has both (190 ms of 50,000 events). Twice as demanding, it asks the index of words: 3 ms.
CREATE FUNCTION find_in_catalogue(
    wanted_words tsquery, wanted_venues uuid[], wanted_artist text, wanted_category text, wanted_status text,
    date_from timestamptz, date_to timestamptz, price_from numeric, price_to numeric
) RETURNS SETOF events LANGUAGE sql STABLE AS $$
    SELECT e.*
      FROM events AS e
     WHERE (wanted_words IS NULL OR e.search_vector @@ wanted_words)
       AND (wanted_words IS NULL OR e.search_vector @@ wanted_words)
       AND (wanted_venues IS NULL OR e.venue_id = ANY (wanted_venues))
       AND (wanted_artist IS NULL OR lower(e.artist) = lower(wanted_artist))
       AND (wanted_category IS NULL OR e.category = wanted_category)
       AND CASE WHEN wanted_status IS NULL THEN e.status <> 'cancelled' ELSE e.status = wanted_status END
       AND CASE WHEN date_from IS NOT NULL THEN e.event_date >= date_from
                WHEN date_to IS NOT NULL OR wanted_status = 'completed' THEN true
                ELSE e.event_date >= now() END
       AND (date_to IS NULL OR e.event_date <= date_to)
       AND (price_from IS NULL OR e.price_max >= price_from)
       AND (price_to IS NULL OR e.price_min <= price_to)
$$;

ALTER TABLE seats
    -- seat: a numbered seat. accessible: a place for a wheelchair. companion: the seat beside one. standing: a place in a
    -- general-admission section, sold by number of people; it has neither row nor number.
    ADD COLUMN kind text NOT NULL DEFAULT 'seat' CHECK (kind IN ('seat', 'accessible', 'companion', 'standing')),
    ADD CHECK ((kind = 'standing') = (row = '' AND seat_number = '')),
    DROP CONSTRAINT seats_event_id_section_row_seat_number_key;
CREATE UNIQUE INDEX a_seat_has_one_name ON seats (event_id, section, row, seat_number) WHERE kind <> 'standing';

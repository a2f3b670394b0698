"""The proof: what must be true of a sale, check by check. Nothing here reads or writes anything."""

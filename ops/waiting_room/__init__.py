"""Is a waiting room fair, and how good are its promises? What operators, and people who were in one, can run themselves."""

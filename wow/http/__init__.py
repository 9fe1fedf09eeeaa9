"""HTTP that others serve, asked with a bound on all that an answer may bring or take."""

"""One file per measured claim."""

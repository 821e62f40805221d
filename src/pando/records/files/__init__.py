"""Files of records: names, where they are stored, what is sent of them, thumbs. See ../DESIGN.md."""

"""Records: collections with rules, sign-in, files and realtime, in PocketBase's terms. See DESIGN.md."""

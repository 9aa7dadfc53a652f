"""Where images come from: files, folders, lists, buckets, web servers; listed and fetched, not decoded."""

"""What is kept of a crash, so that it can be told and reported: records, traces, marks."""

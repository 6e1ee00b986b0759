"""The flight recorder: what every job did to memory, kept in the ledger."""

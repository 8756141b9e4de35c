"""Datagrams in, partials of views out: receive, templates, decode, enrich, the ledger."""

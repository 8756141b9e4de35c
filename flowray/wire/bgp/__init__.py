"""Routing protocols as bytes: BGP messages, path attributes, NLRI, BMP, MRT and RTR."""

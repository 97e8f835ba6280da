"""Layers of any rank: blocks, backbones, necks, heads and losses."""

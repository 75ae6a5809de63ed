"""The files that ``npusim demo`` copies: notebooks, and data that ``golden/make_demo.py`` makes."""

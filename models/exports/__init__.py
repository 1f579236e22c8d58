"""Trained models in formats that others run: one file that needs no Tandem, checked before it is handed out."""

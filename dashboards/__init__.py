"""Streamlit pages over evalsvc's query layer."""

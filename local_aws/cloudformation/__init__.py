"""Stacks that apply what their templates say."""

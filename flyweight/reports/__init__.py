"""Pages where people look rather than read: one HTML file with its pictures and charts inside."""

from flyweight.reports.page import Report, Section, write_report

__all__ = ["Report", "Section", "write_report"]

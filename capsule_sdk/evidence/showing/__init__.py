"""Showing: records in words, trees and sums, for people. What is shown is not verified."""

"""The methods again, plain and slow, in their papers' own symbols: for readers and for tests of equality."""

"""Many pictures: what is given, what is made of each, where it goes."""

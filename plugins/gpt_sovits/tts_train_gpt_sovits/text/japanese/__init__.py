"""Japanese: signs about numbers as words, readings and pitch marks by Open JTalk."""

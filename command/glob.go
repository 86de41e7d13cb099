package command

// Glob reports whether s matches pattern as Redis matches channels and keys
// (util.c, stringmatchlen): * ? [abc] [^a-z] and \ before any of them. As in Redis
// no star matches an empty string.
//
// Every element but the star takes exactly one byte, so if the elements behind a
// star do not match, it is enough to let this last star take one byte more:
// earlier stars cannot help. The time is that of len(pattern) * len(s) at most.
func Glob(pattern, s []byte) bool {
	if len(s) == 0 {
		return len(pattern) == 0
	}
	var behind, rest []byte // the pattern behind the last star, and what it was tried on
	for len(s) > 0 {
		if len(pattern) > 0 && pattern[0] == '*' {
			if pattern = trimStars(pattern); len(pattern) == 0 {
				return true
			}
			behind, rest = pattern, s
		}
		if next, match := element(pattern, s[0]); match {
			pattern, s = next, s[1:]
			continue
		}
		if behind == nil {
			return false
		}
		rest = rest[1:]
		pattern, s = behind, rest
	}
	return len(trimStars(pattern)) == 0
}

func trimStars(pattern []byte) []byte {
	for len(pattern) > 0 && pattern[0] == '*' {
		pattern = pattern[1:]
	}
	return pattern
}

// element matches c with the pattern's first element, which is no star, and returns
// the pattern behind it.
func element(pattern []byte, c byte) (rest []byte, match bool) {
	if len(pattern) == 0 {
		return nil, false
	}
	switch pattern[0] {
	case '?':
		return pattern[1:], true
	case '[':
		match, rest = class(pattern[1:], c)
		return rest[min(1, len(rest)):], match
	case '\\':
		if len(pattern) > 1 {
			pattern = pattern[1:]
		}
	}
	return pattern[1:], pattern[0] == c
}

// class matches one byte with what follows a '['. rest begins with the closing
// bracket, or is empty when there is none.
func class(pattern []byte, c byte) (match bool, rest []byte) {
	not := len(pattern) > 0 && pattern[0] == '^'
	if not {
		pattern = pattern[1:]
	}
	for len(pattern) > 0 && pattern[0] != ']' {
		switch {
		case pattern[0] == '\\' && len(pattern) >= 2:
			pattern = pattern[1:]
			match = match || pattern[0] == c
		case len(pattern) >= 3 && pattern[1] == '-':
			// Redis compares a char, which is signed on most machines.
			from, to, c := int8(pattern[0]), int8(pattern[2]), int8(c)
			match = match || c >= min(from, to) && c <= max(from, to)
			pattern = pattern[2:]
		default:
			match = match || pattern[0] == c
		}
		pattern = pattern[1:]
	}
	return match != not, pattern
}

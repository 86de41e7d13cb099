package command

// Glob reports whether s matches pattern as Redis matches channels and keys
// (util.c, stringmatchlen): * ? [abc] [^a-z] and \ before any of them. As in Redis, the
// pattern * does not match an empty s.
//
// Every element except the star matches exactly one byte. If the elements after a star
// do not match, it is therefore enough to let the last star match one more byte. Earlier
// stars cannot help. The time is at most proportional to len(pattern) * len(s).
func Glob(pattern, s []byte) bool {
	if len(s) == 0 {
		return len(pattern) == 0
	}
	var afterStar, tried []byte // the pattern after the last star, and the rest of s that it is compared with
	for len(s) > 0 {
		if len(pattern) > 0 && pattern[0] == '*' {
			if pattern = trimStars(pattern); len(pattern) == 0 {
				return true
			}
			afterStar, tried = pattern, s
		}
		if next, match := element(pattern, s[0]); match {
			pattern, s = next, s[1:]
			continue
		}
		if afterStar == nil {
			return false
		}
		tried = tried[1:]
		pattern, s = afterStar, tried
	}
	return len(trimStars(pattern)) == 0
}

func trimStars(pattern []byte) []byte {
	for len(pattern) > 0 && pattern[0] == '*' {
		pattern = pattern[1:]
	}
	return pattern
}

// element matches c with the pattern's first element, which is not a star. It returns the
// pattern after that element.
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

// class matches c with a character class. pattern begins after the '['. rest begins with
// the closing bracket, or is empty if there is none.
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
			// Redis compares values of type char, which is signed on most machines.
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

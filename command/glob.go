package command

// Glob tells whether s matches pattern as Redis matches channels and keys
// (util.c, stringmatchlen): * ? [abc] [^a-z] and \ before any of them.
func Glob(pattern, s []byte) bool {
	for len(pattern) > 0 && len(s) > 0 {
		switch pattern[0] {
		case '*':
			for len(pattern) > 1 && pattern[1] == '*' {
				pattern = pattern[1:]
			}
			if len(pattern) == 1 {
				return true
			}
			for i := range len(s) + 1 {
				if Glob(pattern[1:], s[i:]) {
					return true
				}
			}
			return false
		case '?':
		case '[':
			var match bool
			if match, pattern = class(pattern[1:], s[0]); !match {
				return false
			}
		case '\\':
			if len(pattern) > 1 {
				pattern = pattern[1:]
			}
			fallthrough
		default:
			if pattern[0] != s[0] {
				return false
			}
		}
		s = s[1:]
		if len(pattern) > 0 {
			pattern = pattern[1:]
		}
	}
	for len(s) == 0 && len(pattern) > 0 && pattern[0] == '*' {
		pattern = pattern[1:]
	}
	return len(pattern) == 0 && len(s) == 0
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
			from, to := min(pattern[0], pattern[2]), max(pattern[0], pattern[2])
			pattern = pattern[2:]
			match = match || c >= from && c <= to
		default:
			match = match || pattern[0] == c
		}
		pattern = pattern[1:]
	}
	return match != not, pattern
}

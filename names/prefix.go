package names

import (
	"bytes"
	"strings"
)

// Prefix is what stands in front of all keys and channels of a user. It does not change.
type Prefix struct {
	text    string
	glob    string // text as a pattern that matches only text
	all     string // the pattern of all names of the user
	scripts bool
}

// New returns a prefix. text must not be empty or contain an asterisk: SORT puts elements in
// the place of the first one. scripts says that the user may run scripts and functions, which
// can use the keys of other users.
func New(text string, scripts bool) *Prefix {
	var glob strings.Builder
	for i := range len(text) {
		if strings.IndexByte(`*?[\`, text[i]) >= 0 {
			glob.WriteByte('\\')
		}
		glob.WriteByte(text[i])
	}
	return &Prefix{text: text, glob: glob.String(), all: glob.String() + "*", scripts: scripts}
}

// String returns the prefix.
func (p *Prefix) String() string {
	if p == nil {
		return ""
	}
	return p.text
}

// Same reports whether two users have the same names. nil stands for users without a prefix.
func (p *Prefix) Same(o *Prefix) bool { return p.String() == o.String() }

// Has reports whether a whole name is the user's.
func (p *Prefix) Has(name []byte) bool {
	return len(name) >= len(p.text) && string(name[:len(p.text)]) == p.text
}

// Own returns a whole name as the user writes it. Names that are not the user's stay as they
// are.
func (p *Prefix) Own(name []byte) []byte {
	if !p.Has(name) {
		return name
	}
	return name[len(p.text):]
}

// OwnPattern is Own for a pattern.
func (p *Prefix) OwnPattern(pattern []byte) []byte {
	if len(pattern) < len(p.glob) || string(pattern[:len(p.glob)]) != p.glob {
		return pattern
	}
	return pattern[len(p.glob):]
}

// OwnError returns the text of an error with the user's own names. Such texts quote names.
func (p *Prefix) OwnError(text string) string {
	if !strings.Contains(text, p.text) {
		return text
	}
	if strings.HasPrefix(text, "NOGROUP ") { // it also quotes a group, whose name has no prefix
		text = strings.Replace(text, "No such key '"+p.text, "No such key '", 1)
		if i := strings.LastIndex(text, "for key name '"+p.text); i >= 0 {
			i += len("for key name '")
			text = text[:i] + text[i+len(p.text):]
		}
		return text
	}
	for _, quote := range [...]string{"'", "\"", "`"} {
		text = strings.ReplaceAll(text, quote+p.text, quote)
	}
	return text
}

// ownErrorReply is OwnError for an error reply.
func (p *Prefix) ownErrorReply(dst, reply []byte) []byte {
	if !bytes.Contains(reply, []byte(p.text)) {
		return append(dst, reply...)
	}
	return append(dst, "-"+p.OwnError(string(reply[1:]))...)
}

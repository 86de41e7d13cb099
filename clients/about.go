package clients

import (
	"strings"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// About is the name and library that a client has announced.
type About struct {
	Name, LibName, LibVersion string
}

// IsName reports whether text is printable ASCII without spaces, as Redis demands of the
// names that clients announce (networking.c, validateClientName).
func IsName(text []byte) bool {
	for _, c := range text {
		if c < '!' || c > '~' {
			return false
		}
	}
	return true
}

// CheckInfo returns the error for a CLIENT SETINFO with this attribute and value, or "" if
// SetInfo accepts them.
func CheckInfo(attr, value []byte) (text string) {
	if !command.EqualFold(attr, "lib-name") && !command.EqualFold(attr, "lib-ver") {
		return "ERR Unrecognized option '" + resp.Printable(attr) + "'"
	}
	if !IsName(value) {
		return "ERR " + strings.ToLower(string(attr)) + " cannot contain spaces, newlines or special characters."
	}
	return ""
}

// SetInfo sets an attribute that CheckInfo accepts.
func (a *About) SetInfo(attr, value []byte) {
	if command.EqualFold(attr, "lib-name") {
		a.LibName = string(value)
	} else {
		a.LibVersion = string(value)
	}
}

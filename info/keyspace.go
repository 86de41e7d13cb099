package info

import (
	"strconv"
	"strings"
)

// Database is a database of a node that has keys.
type Database struct {
	Number int
	Keys   int64
}

// Databases returns the databases that an INFO text lists, in the text's order. Servers
// list them by their numbers, and only those that have keys.
func Databases(text string) (all []Database) {
	for line := range strings.SplitSeq(text, "\r\n") {
		name, fields, _ := strings.Cut(line, ":keys=")
		number, isDB := strings.CutPrefix(name, "db")
		index, err := strconv.Atoi(number)
		if !isDB || err != nil {
			continue
		}
		count, _, _ := strings.Cut(fields, ",")
		if keys, err := strconv.ParseInt(count, 10, 64); err == nil && keys > 0 {
			all = append(all, Database{index, keys})
		}
	}
	return all
}

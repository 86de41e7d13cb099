package register

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/keyway-proxy/keyway/resp"
)

// prefix begins the names of all records.
const prefix = "keyway_"

// Pattern matches the names of all records, for FUNCTION LIST LIBRARYNAME.
const Pattern = prefix + "*"

// maxDigits bounds the number of an epoch, so that it fits into an int64.
const maxDigits = 18

// Record is the content of the library keyway_<epoch>: from its creation on, the node is in
// that epoch. The change from the old layout to the new one is over when a library of the
// name that DoneName returns is on some node. A record with two equal layouts changes
// nothing, so it needs no such library.
type Record struct {
	Epoch int64  `json:"epoch"` // from 1
	Old   Layout `json:"old"`
	New   Layout `json:"new"`
}

// Layout is a way to place keys.
type Layout struct {
	Hash   string          `json:"hash"`   // of all that decides where keys go; see config.PlacementHash
	Config json.RawMessage `json:"config"` // as config.PlacementText writes it, without secrets
}

// Name returns the name of the library of an epoch.
func Name(epoch int64) string { return prefix + strconv.FormatInt(epoch, 10) }

// The ends of the names of the records that a change to an epoch makes besides its own.
const (
	planSuffix     = "_plan"
	holdInfix      = "_hold_"
	decisionSuffix = "_decision"
	closingSuffix  = "_closing"
	drainedInfix   = "_drained_"
	paceInfix      = "_pace_"
	doneSuffix     = "_done"
)

// Room is how much more memory a full node gets for the moment in which it takes a record, for that and for the
// connections of keyways that greet it meanwhile.
const Room = 4 << 20

// PlanName returns the name of the library with the Plan of the change to an epoch.
func PlanName(epoch int64) string { return Name(epoch) + planSuffix }

// HoldName returns the name of the library that says that keyways should hold commands, in the
// n-th attempt to change to an epoch.
func HoldName(epoch int64, n int) string { return Name(epoch) + holdInfix + strconv.Itoa(n) }

// DecisionName returns the name of the library with the Decision about the change to an epoch.
func DecisionName(epoch int64) string { return Name(epoch) + decisionSuffix }

// ClosingName returns the name of the library that says that a node is about to enter an epoch.
// Until it has entered it, no connection to it may be used that is greeted from now on.
func ClosingName(epoch int64) string { return Name(epoch) + closingSuffix }

// DoneName returns the name of the library that says that the change to an epoch is over.
func DoneName(epoch int64) string { return Name(epoch) + doneSuffix }

// DrainedName returns the name of the library that says that a node of the old layout has no
// key any more that the change to an epoch moves.
func DrainedName(epoch int64, node string) string {
	return Name(epoch) + drainedInfix + escape(node)
}

// PaceName returns the name of the library with the n-th Pace of the change to an epoch.
func PaceName(epoch int64, n int) string { return Name(epoch) + paceInfix + strconv.Itoa(n) }

// IsRecord reports whether a library or function is a part of the register. Nodes ignore the
// case of the names of functions.
func IsRecord(name []byte) bool {
	return len(name) >= len(prefix) && strings.EqualFold(string(name[:len(prefix)]), prefix)
}

// IsInText reports whether a library is a part of the register, or has the name of such a part
// as a text, as it would to register a function of that name: a node would then refuse the
// register's own.
func IsInText(code []byte) bool {
	lower := bytes.ToLower(code)
	return IsRecord([]byte(NameIn(code))) ||
		bytes.Contains(lower, []byte("'"+prefix)) || bytes.Contains(lower, []byte(`"`+prefix))
}

// Number returns the epoch in the name of a library. It is 0 if that is not the record of an
// epoch.
func Number(name string) int64 {
	digits, ok := strings.CutPrefix(name, prefix)
	if !ok || digits == "" || len(digits) > maxDigits || digits[0] == '0' {
		return 0
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0
		}
	}
	n, _ := strconv.ParseInt(digits, 10, 64) // only digits, few enough
	return n
}

// Of returns the epoch of the change that a record of this name belongs to. It is 0 if it is no record.
func Of(name string) int64 {
	digits, _, _ := strings.Cut(strings.TrimPrefix(name, prefix), "_")
	return Number(prefix + digits)
}

// Entering returns the epoch that a library with this name makes its node enter, also while connections
// of earlier epochs are being ended. It is 0 for other libraries.
func Entering(name string) int64 {
	before, _ := strings.CutSuffix(name, closingSuffix)
	return Number(before)
}

// Epoch returns the epoch of a node from its reply to FUNCTION LIST LIBRARYNAME [Pattern]: the
// highest number among the records, 0 if there is none. closing is the epoch that the node is
// about to enter, since it has that epoch's ClosingName; 0 if there is none above its own.
func Epoch(list []byte) (epoch, closing int64) {
	for library := range elements(list) {
		name := string(libraryName(library))
		epoch = max(epoch, Number(name))
		if before, is := strings.CutSuffix(name, closingSuffix); is {
			closing = max(closing, Number(before))
		}
	}
	if closing <= epoch {
		closing = 0
	}
	return epoch, closing
}

// The parts of a library's text around the name and the JSON text.
const (
	beforeName     = "#!lua name="
	beforeFunction = "\nredis.register_function{function_name='"
	beforeJSON     = "', callback=function() return '"
	afterJSON      = "' end, flags={'no-writes', 'allow-stale'}}"
)

// Code returns the text for FUNCTION LOAD, which must be sent without REPLACE: a record is
// created once and never changes.
func (r Record) Code() (string, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return "", fmt.Errorf("writing the record of epoch %d: %w", r.Epoch, err)
	}
	return library(Name(r.Epoch), string(text)), nil
}

// library returns the text of a library with a function of the same name, which returns content.
// That has no line breaks, as JSON has none.
func library(name, content string) string {
	quoted := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(content)
	return beforeName + name + beforeFunction + name + beforeJSON + quoted + afterJSON
}

// Note returns the text for FUNCTION LOAD of a record that has only a name, such as that of
// DoneName.
func Note(name string) string { return library(name, "") }

// content returns the name of a library and what its function returns. It accepts only what
// library writes.
func content(code string) (name, text string, err error) {
	rest, ok := strings.CutPrefix(code, beforeName)
	name, rest, ok2 := strings.Cut(rest, beforeFunction)
	if !ok || !ok2 {
		return "", "", fmt.Errorf("the text of the record begins with %.60q", code)
	}
	quoted, ok := strings.CutPrefix(rest, name+beforeJSON)
	quoted, ok2 = strings.CutSuffix(quoted, afterJSON)
	if !ok || !ok2 {
		return "", "", fmt.Errorf("the record %s is no function that returns a text", name)
	}
	return name, strings.NewReplacer(`\\`, `\`, `\'`, `'`).Replace(quoted), nil
}

// Parse reads the text of the library of an epoch. It accepts only what Code writes.
func Parse(code string) (Record, error) {
	name, text, err := content(code)
	if err != nil {
		return Record{}, err
	}
	if Number(name) == 0 {
		return Record{}, fmt.Errorf("the record is called %.60q", name)
	}
	var r Record
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return Record{}, fmt.Errorf("reading the record %s: %w", name, err)
	}
	return r, r.check(name, Name(r.Epoch))
}

// check returns an error if a record that was read from the library name is incomplete, or
// if that library has the name of another.
func (r Record) check(name, want string) error {
	if name != want || r.Old.Hash == "" || r.New.Hash == "" {
		return fmt.Errorf("the record %s is incomplete, or of epoch %d", name, r.Epoch)
	}
	return nil
}

// Moves reports whether the layouts of the record differ.
func (r Record) Moves() bool { return r.Old.Hash != r.New.Hash }

// libraryName returns the name of one library in a reply to FUNCTION LIST.
func libraryName(library []byte) []byte {
	name, _ := resp.Bulk(valueOf(library, "library_name"))
	return name
}

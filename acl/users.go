package acl

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/names"
	"github.com/keyway-proxy/keyway/quota"
	"github.com/keyway-proxy/keyway/resp"
)

// DefaultName is the user of clients that have not authenticated as another one.
const DefaultName = "default"

// User is one user. It does not change.
type User struct {
	Name string
	// Unlimited reports whether the user may run every command on all keys and channels.
	Unlimited bool
	Settings

	enabled   bool
	noPass    bool
	sanitize  string   // sanitize-payload, skip-sanitize-payload or empty: only shown
	passwords []string // SHA-256 hashes in hexadecimal, each valid
	selectors []*selector
}

// Settings are what a configuration says about a user besides the rules. No rule changes them.
type Settings struct {
	// Prefix is in front of all keys and channels of the user; nil: nothing is. The rules are
	// about the names behind it, as the user writes them.
	Prefix *names.Prefix
	// Deny has, by their IDs, the commands that the user may not send, whatever the rules allow;
	// nil: none.
	Deny []bool
	// Limits bound what the clients of the user use together; nil: nothing does.
	Limits *quota.Limits
	// Database is the one in which clients begin as the user.
	Database uint16
}

// ChangesDatabase reports whether clients of the user get another database when they become next.
// Without databases in the settings of both they keep theirs, as in Redis.
func (u *User) ChangesDatabase(next *User) bool {
	return u.Name != next.Name && (u.Database != 0 || next.Database != 0)
}

// Enabled reports whether clients can authenticate as the user.
func (u *User) Enabled() bool { return u.enabled }

// NoPass reports whether any password is valid.
func (u *User) NoPass() bool { return u.noPass }

// Admits reports whether the user needs no authentication. It matters for the default user.
func (u *User) Admits() bool { return u.enabled && u.noPass }

// CanAct reports whether the user can be an operator where it has no connection: it is on, has a password, and no
// prefix that hides from it what others do.
func (u *User) CanAct() bool {
	return u.enabled && !u.noPass && len(u.passwords) > 0 && u.Prefix == nil
}

// MayAct reports whether the user can be an operator and its rules allow the command, which has no keys.
func (u *User) MayAct(cmd *command.Command) bool {
	return u.CanAct() && u.Check(cmd, new(resp.Parser), new(Scratch)).Why == Permitted
}

// Users are all users. The default user is always one of them.
type Users struct {
	Default *User
	names   []string // sorted
	byName  map[string]*User
	// settings are those of the configuration, by the user's name: a user that is deleted and made
	// again has the same.
	settings map[string]Settings
}

// Definition is a user before it is checked.
type Definition struct {
	Name  string
	Rules string // as behind the name in a line of an ACL file
	Settings
	// OnlySettings says that there is no such user yet. ACL SETUSER may make one.
	OnlySettings bool
}

// Anyone are the users of a configuration without passwords and users: the default user, who
// needs no password and may do everything.
var Anyone = mustMake(Definition{Name: DefaultName, Rules: anything})

// Nobody returns a user without any right.
func Nobody(name string) *User { return newUser(name) }

// Unknown are the users while only the nodes know them: the default user, who is off here.
var Unknown = mustMake(Definition{Name: DefaultName, Rules: "off"})

const anything = "on nopass ~* &* +@all"

// WithPasswords returns the definition of a default user who may do everything, with one of
// the passwords. Without passwords the user needs none.
func WithPasswords(passwords []string) Definition {
	rules := anything
	if len(passwords) > 0 {
		rules = "on ~* &* +@all"
	}
	for _, p := range passwords {
		rules += " #" + hash([]byte(p))
	}
	return Definition{Name: DefaultName, Rules: rules}
}

func mustMake(of ...Definition) *Users {
	u, _, err := Make(of)
	if err != nil {
		panic(err)
	}
	return u
}

// Make returns the users that are defined. If none of them is the default user, Make adds
// one that needs no password and may do everything, as Redis does. bad is the index of the
// definition that err is about. Errors are Redis's own texts.
func Make(of []Definition) (users *Users, bad int, err error) {
	byName, settings := map[string]*User{}, map[string]Settings{}
	for i, d := range of {
		if settings[d.Name] = d.Settings; d.OnlySettings {
			continue
		}
		u, err := makeUser(d)
		if err != nil {
			return nil, i, err
		}
		if byName[d.Name] != nil {
			return nil, i, ruleError(fmt.Sprintf("Duplicate user '%s' found", d.Name))
		}
		byName[d.Name] = u
	}
	if byName[DefaultName] == nil {
		if byName[DefaultName], err = makeUser(
			Definition{Name: DefaultName, Rules: anything, Settings: settings[DefaultName]}); err != nil {
			return nil, 0, err
		}
	}
	return newUsers(byName, settings), 0, nil
}

func newUsers(byName map[string]*User, settings map[string]Settings) *Users {
	return &Users{byName[DefaultName], slices.Sorted(maps.Keys(byName)), byName, settings}
}

// newUser returns a user without any right.
func newUser(name string) *User { return &User{Name: name, selectors: []*selector{newSelector()}} }

// complete computes what depends on several rules, once all are applied.
func (u *User) complete() {
	root := u.selectors[0]
	u.Unlimited = root.allCommands && root.allKeys && root.allChannels && u.Deny == nil
}

func makeUser(d Definition) (*User, error) {
	if d.Name == "" || hasSpaces(d.Name) {
		return nil, fmt.Errorf("username '%s' contains invalid characters", d.Name)
	}
	u := newUser(d.Name)
	u.Settings = d.Settings
	rules, err := splitRules(d.Rules)
	if err != nil {
		return nil, err
	}
	for _, rule := range rules {
		if err := u.apply(rule); err != nil {
			return nil, err
		}
	}
	u.complete()
	return u, nil
}

// Get returns the user with this name, or nil.
func (us *Users) Get(name []byte) *User { return us.byName[string(name)] }

// IsOpen reports whether clients can run all commands without authentication.
func (us *Users) IsOpen() bool { return us.Default.Admits() && us.Default.selectors[0].allCommands }

// HasOperators reports whether any user can act: see [User.CanAct].
func (us *Users) HasOperators() bool {
	return slices.ContainsFunc(us.names, func(name string) bool { return us.byName[name].CanAct() })
}

// Named is Get for a text.
func (us *Users) Named(name string) *User { return us.byName[name] }

// Names returns the names of the users, sorted. The caller must not change them.
func (us *Users) Names() []string { return us.names }

// Authenticate returns the user, or nil if the user does not exist or is off, or the password
// is wrong. The time it takes does not depend on how much of the password is right.
func (us *Users) Authenticate(name, password []byte) *User {
	given := hash(password)
	u, right := us.Get(name), 0
	if u == nil || !u.enabled {
		return nil
	}
	for _, valid := range u.passwords {
		right |= subtle.ConstantTimeCompare([]byte(given), []byte(valid))
	}
	if right == 1 || u.noPass {
		return u
	}
	return nil
}

func hash(password []byte) string {
	sum := sha256.Sum256(password)
	return hex.EncodeToString(sum[:])
}

// hasSpaces reports whether s has what would break a line of an ACL file.
func hasSpaces(s string) bool { return strings.ContainsAny(s, " \t\n\v\f\r\x00") }

package wiring

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/lua"
)

var hexSHA = regexp.MustCompile("^[0-9a-f]{40}$")

// perKeyScripts returns the per-key scripts that keyway knows and those that the
// configuration declares. Errors are *config.Error.
func perKeyScripts(c *config.Config) (lua.PerKeyScripts, error) {
	var declared []lua.PerKey
	for i, d := range c.Scripts.PerKey {
		path := fmt.Sprintf("scripts.per_key[%d]", i)
		p := lua.PerKey{SHA: strings.ToLower(d.SHA), Keys: d.Keys, Sum: d.Reply == "sum"}
		switch {
		case (d.SHA == "") == (d.Text == ""):
			return lua.PerKeyScripts{}, c.Errorf(path, "write either sha: or text:",
				"a script is named by its SHA-1 or by its text")
		case d.Text != "":
			text := []byte(d.Text)
			p.SHA, p.Normal = lua.SHA1(text), lua.SHA1(lua.NormalScript(text))
		case !hexSHA.MatchString(p.SHA):
			return lua.PerKeyScripts{}, c.Errorf(path+".sha", "write the 40 hex digits that SCRIPT LOAD answers",
				"%q is not a SHA-1", d.SHA)
		}
		if d.Keys < 0 {
			return lua.PerKeyScripts{}, c.Errorf(path+".keys", "write how many KEYS belong together, such as 1",
				"out of range")
		}
		if d.Reply != "" && d.Reply != "array" && d.Reply != "sum" {
			return lua.PerKeyScripts{}, c.Errorf(path+".reply", "write array or sum", "unknown reply %q", d.Reply)
		}
		var err error
		if p.Argv, err = lua.ParseArgv(d.Argv); err != nil {
			return lua.PerKeyScripts{}, c.Errorf(path+".argv", "write a list such as [shared, each]", "%v", err)
		}
		declared = append(declared, p)
	}
	return lua.NewPerKeyScripts(declared), nil
}

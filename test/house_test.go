package test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/keyway-proxy/keyway/"

// core are the packages of the core, the lower ones first.
const core = "resp command names quota acl slots hashring router metrics buffer errtext " +
	"clients refusal retry emulation freshness info lua hotkeys bigkeys transaction locks dryrun register scan " +
	"slowlog journey transfer pool shared logins quorum options proxy/engine proxy/answers proxy/blocking " +
	"proxy/drain proxy/handover proxy/limiting proxy/near proxy/observe proxy/pubsub proxy/pull proxy/quorum " +
	"proxy/tracking proxy/txn proxy"

// packages returns what go list knows about the module's packages.
func packages(t *testing.T) map[string]*listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Deps,Doc,GoFiles", module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	all := map[string]*listed{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		p := new(listed)
		if err := dec.Decode(p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimPrefix(p.ImportPath, module)] = p
	}
}

type listed struct {
	ImportPath, Doc        string
	Imports, Deps, GoFiles []string
}

// arrows are what packages must not depend on.
var arrows = []struct{ packages, forbidden, reason string }{
	{core, "net os os/signal sync os/exec " + module + "loop", "the core is pure: see proxy/engine/doc.go"},
	{
		core,
		"github.com/redis/go-redis/v9 github.com/prometheus/client_golang/prometheus gopkg.in/yaml.v3",
		"control plane and export live outside the hot path",
	},
	{
		"resp",
		module + "command " + module + "router " + module + "pool " + module + "proxy",
		"resp frames without knowing any command",
	},
	{"names", module + "acl " + module + "router " + module + "pool " + module + "proxy", "it knows commands"},
	{"acl", module + "router " + module + "pool " + module + "errtext " + module + "proxy", "it knows commands"},
	{
		"slots hashring",
		module + "router " + module + "proxy " + module + "pool " + module + "command " + module + "resp",
		"layer 0",
	},
	{
		"clients errtext freshness info journey refusal register slowlog",
		module + "router " + module + "pool " + module + "proxy",
		"they know replies and figures",
	},
	{"dryrun", module + "pool " + module + "metrics " + module + "proxy", "it knows commands and tables"},
	{"emulation scan", module + "command " + module + "router " + module + "pool", "they know slots and frames"},
	{"quorum", module + "router " + module + "pool " + module + "metrics", "it knows frames, and no connections"},
	{"transfer", module + "router " + module + "pool " + module + "metrics", "it knows frames, and no connections"},
	{"lua hotkeys bigkeys", module + "router " + module + "pool " + module + "metrics", "it knows commands and frames"},
	{"locks", module + "router " + module + "pool " + module + "proxy", "it knows commands, scripts and replies"},
	{"command router pool shared logins options", module + "proxy " + module + "server", "layer 1"},
	{
		"pool shared",
		module + "command " + module + "router " + module + "slots",
		"a connection knows frames, not commands",
	},
	{
		"proxy/engine proxy/answers proxy/blocking proxy/drain proxy/handover proxy/limiting proxy/observe " +
			"proxy/pubsub proxy/quorum proxy/tracking proxy/txn",
		module + "proxy " + module + "server " + module + "loop " + module + "config " + module + "admin",
		"layer 2",
	},
	{"proxy", module + "server " + module + "loop " + module + "config " + module + "admin", "layer 2"},
	{"proxyheader", module + "loop " + module + "config " + module + "server", "it knows bytes and addresses only"},
	{"upgrade", module + "config " + module + "server " + module + "proxy", "it carries messages, whatever they say"},
	{"tlsconn", module + "loop " + module + "config " + module + "server", "it moves no bytes of sockets"},
	{"server", module + "admin " + module + "topology", "the topology comes in by an interface"},
	{"migrate", module + "config " + module + "topology " + module + "proxy", "it knows tables and keys"},
	{"move", module + "router " + module + "config " + module + "topology", "it knows keys and nodes, no layout"},
	{"control", module + "router " + module + "config", "it knows servers by their addresses only"},
	{"topology", module + "config " + module + "server " + module + "proxy", "it knows no configuration"},
	{"guard", module + "config " + module + "server " + module + "proxy", "it knows tables and nodes' keys"},
	{"plan", module + "config " + module + "server " + module + "proxy", "it knows tables and nodes"},
	{
		"overview",
		module + "config " + module + "server " + module + "admin " + module + "proxy",
		"it knows counters, tables and lines of the log",
	},
	{"machine", module + "config " + module + "server", "it knows the machine, and no configuration"},
	{
		"traces accesslog",
		module + "config " + module + "server " + module + "proxy " + module + "admin",
		"they know journeys only",
	},
	{"systemd", module + "config " + module + "server " + module + "admin", "it knows systemd's messages only"},
	{"nutcracker", module + "config " + module + "wiring", "it writes texts, which the command then tries"},
	{
		"page",
		module + "admin " + module + "server " + module + "config",
		"it shows what others know, and asks by functions",
	},
	{"daemon", "github.com/spf13/cobra", "it knows no commands and no flags"},
	{"wiring reshard", module + "admin " + module + "daemon", "what operators see is the command's business"},
	{
		"wiring",
		module + "plan " + module + "mover " + module + "switching " + module + "migrate",
		"a change of the layout is reshard's",
	},
}

// TestHouse: arrows point down, the core is pure, and each package says what
// it owns.
func TestHouse(t *testing.T) {
	all := packages(t)
	for name, p := range all {
		if p.Doc == "" && len(p.GoFiles) > 0 {
			t.Errorf("package %s has no doc comment", name)
		}
	}
	for _, rule := range arrows {
		for name := range strings.FieldsSeq(rule.packages) {
			if all[name] == nil {
				t.Errorf("no package %s", name)
				continue
			}
			for bad := range strings.FieldsSeq(rule.forbidden) {
				if all[name].dependsOn(bad) && !mayImport(name, bad) {
					t.Errorf("%s depends on %s: %s", name, bad, rule.reason)
				}
			}
		}
	}
}

// dependsOn reports whether a package imports another: ours and third parties' on any path,
// those of the standard library directly.
func (p *listed) dependsOn(bad string) bool {
	if strings.Contains(bad, ".") {
		return slices.Contains(p.Deps, bad)
	}
	return slices.Contains(p.Imports, bad)
}

// mayImport reports whether a package is exempt from a rule: refusal parses addresses in
// redirects, emulation those of keyways; that opens no socket.
func mayImport(name, bad string) bool {
	return bad == "net" && (name == "refusal" || name == "emulation")
}

// TestHouseLeavesStandAlone: some packages can be read without any other.
func TestHouseLeavesStandAlone(t *testing.T) {
	all := packages(t)
	for _, name := range []string{"loop", "config", "metrics", "buffer", "quota", "retry", "transaction"} {
		for _, dep := range all[name].Deps {
			if strings.HasPrefix(dep, module) {
				t.Errorf("%s depends on %s: it is to be readable without the rest", name, dep)
			}
		}
	}
}

// TestProductHasNoTests: what tests use is not in the product.
func TestProductHasNoTests(t *testing.T) {
	for name, p := range packages(t) {
		for _, dep := range p.Deps {
			if strings.HasPrefix(name, "test") {
				continue
			}
			fake := strings.Contains(dep, "miniredis") && name != "demo" && name != "cmd/keyway"
			if dep == "testing" || strings.HasPrefix(dep, module+"test") || fake {
				t.Errorf("%s depends on %s: not in the product", name, dep)
			}
		}
	}
}

// TestCoreStartsNothing: no goroutine, no clock and no printing in the core.
func TestCoreStartsNothing(t *testing.T) {
	t.Parallel()
	for dir := range strings.FieldsSeq(core + " loop config") {
		err := filepath.WalkDir(filepath.Join("..", dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				if d != nil && d.IsDir() && d.Name() == "gen" {
					return fs.SkipDir
				}
				return err
			}
			if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					t.Errorf("%s: a goroutine is started here", fset.Position(n.Pos()))
				case *ast.CallExpr:
					sel, ok := n.Fun.(*ast.SelectorExpr)
					if !ok {
						return true
					}
					if pkg, ok := sel.X.(*ast.Ident); ok {
						call := pkg.Name + "." + sel.Sel.Name
						ofTime := call == "time.Now" || call == "time.Sleep" || call == "time.Since"
						if dir != "loop" && ofTime || strings.HasPrefix(call, "fmt.Print") {
							t.Errorf("%s: %s in the core", fset.Position(n.Pos()), call)
						}
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// TestHouseFeaturesStandApart: the engine names no feature, no feature names another, and
// package proxy alone knows them all.
func TestHouseFeaturesStandApart(t *testing.T) {
	const below = module + "proxy/"
	for name, p := range packages(t) {
		for _, dep := range p.Imports {
			feature, isBelow := strings.CutPrefix(dep, below)
			if isBelow && name != "proxy" && !(strings.HasPrefix(name, "proxy/") && feature == "engine") {
				t.Errorf("%s names %s", name, feature)
			}
		}
	}
}

// TestOneRoadToTheNodes: what clients send reaches nodes by proxy/engine/call.go alone, which
// chooses the connection by the call's lane. Elsewhere only questions of keyway's own
// are sent, whose receiver is a probe, or by the near cache over connections that are its own.
func TestOneRoadToTheNodes(t *testing.T) {
	files, err := filepath.Glob("../proxy/*/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") || path == "../proxy/engine/call.go" ||
			strings.HasPrefix(path, "../proxy/near/") {
			continue
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			switch sel.Sel.Name {
			case "SendOwned", "SendBlock":
				t.Errorf("%s: a client's command is sent here", fset.Position(n.Pos()))
			case "Send", "SendAsking":
				to := call.Args[0]
				if sel.Sel.Name == "SendAsking" { // ASKING's own reply goes to the first
					to = call.Args[1]
				}
				if !isProbe(to) {
					t.Errorf("%s: sent for a receiver that is not a new probe", fset.Position(n.Pos()))
				}
			}
			return true
		})
	}
}

// isProbe reports whether an expression is a new Probe, or a variable that is one.
func isProbe(e ast.Expr) bool {
	if id, ok := e.(*ast.Ident); ok && id.Obj != nil {
		if as, ok := id.Obj.Decl.(*ast.AssignStmt); ok {
			for i, left := range as.Lhs {
				if l, ok := left.(*ast.Ident); ok && l.Name == id.Name && i < len(as.Rhs) {
					e = as.Rhs[i]
				}
			}
		}
	}
	u, ok := e.(*ast.UnaryExpr)
	if !ok {
		return false
	}
	lit, ok := u.X.(*ast.CompositeLit)
	if !ok {
		return false
	}
	switch of := lit.Type.(type) {
	case *ast.Ident:
		return of.Name == "Probe"
	case *ast.SelectorExpr:
		return of.Sel.Name == "Probe"
	}
	return false
}

// isForeign reports whether a directory of this name holds files of others.
func isForeign(dir string) bool {
	return slices.Contains([]string{".git", "node_modules", "venv", "target", "deps"}, dir)
}

// TestFilesAreReadable: a file that cannot be read in one sitting wants
// splitting, and none is named after nothing.
func TestFilesAreReadable(t *testing.T) {
	t.Parallel()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			switch d.Name() {
			case "utils", "util", "helpers", "common", "misc", "managers":
				t.Errorf("%s: a drawer, not a concept", path)
			}
			if isForeign(d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_gen.go") {
			return nil
		}
		out, err := exec.Command("wc", "-l", path).Output()
		if err != nil {
			return err
		}
		if n, _ := strconv.Atoi(strings.Fields(string(out))[0]); n > 700 {
			t.Errorf("%s has %d lines", path, n)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

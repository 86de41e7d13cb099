package page

import (
	"bytes"
	"embed"
	"fmt"
	"hash/fnv"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"sync"
	"time"

	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/topology"
)

//go:embed page.html page.css page.js page.svg
var files embed.FS

// templates are those of page.html.
var templates = template.Must(template.New("page.html").Funcs(template.FuncMap{
	"sentence": sentence,
	"grouped":  func(n int) string { return grouped(int64(n)) },
	"asset":    func(name string) string { return name + "?v=" + assets[name].version },
}).ParseFS(files, "page.html"))

// asset is a file that the page needs.
type asset struct {
	content []byte
	version string
	kind    string
}

// assets are the files by their names.
var assets = readAssets()

func readAssets() map[string]asset {
	all := map[string]asset{}
	for name, kind := range map[string]string{"page.css": "text/css; charset=utf-8",
		"page.js": "text/javascript; charset=utf-8", "page.svg": "image/svg+xml"} {
		content, err := fs.ReadFile(files, name)
		if err != nil {
			panic(err) // it is embedded
		}
		sum := fnv.New32a()
		sum.Write(content)
		all[name] = asset{content, fmt.Sprintf("%08x", sum.Sum32()), kind}
	}
	return all
}

// Assets are the paths of the files that all pages need. ServeAsset serves them.
func Assets() (paths []string) {
	for name := range assets {
		paths = append(paths, "/"+name)
	}
	return paths
}

// ServeAsset serves the file that the path of a request names.
func ServeAsset(w http.ResponseWriter, r *http.Request) {
	a, ok := assets[path.Base(r.URL.Path)]
	if !ok {
		http.NotFound(w, r)
		return
	}
	protect(w)
	w.Header().Set("Content-Type", a.kind)
	w.Header().Set("Cache-Control", "no-cache")
	if r.URL.Query().Get("v") == a.version { // another version has another address
		w.Header().Set("Cache-Control", "max-age=31536000, immutable")
	}
	_, _ = w.Write(a.content)
}

// protect keeps what a browser gets from other sites, and scripts of others from running in it.
func protect(w http.ResponseWriter) {
	for key, value := range map[string]string{
		"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
			"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
		"X-Content-Type-Options":       "nosniff",
		"X-Frame-Options":              "DENY",
		"Referrer-Policy":              "no-referrer",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Cross-Origin-Opener-Policy":   "same-origin",
		"Cache-Control":                "no-store",
	} {
		w.Header().Set(key, value)
	}
}

// Page is the page of one pool.
type Page struct {
	source Source
	live   hub

	mu     sync.Mutex
	drawn  *router.Table        // whose picture layout is
	moved  []topology.Migration // that it shows
	layout *Picture
}

// New returns the page of a pool.
func New(source Source) *Page {
	p := &Page{source: source}
	p.live.page = p
	return p
}

// lookWithin bounds how long the lists may take.
const lookWithin = 2 * time.Second

// look returns what the page shows now, without its lists. asked is the key whose place it shows, nil for none.
func (p *Page) look(asked *string) *view {
	v := p.source.figures()
	if p.source.Table == nil {
		return v
	}
	t := p.source.Table()
	var moved []topology.Migration
	if p.source.Migrating != nil {
		moved = p.source.Migrating()
	}
	if asked != nil {
		key := typed(*asked)
		v.Where, v.Picture = whereIs(t, *asked), pictureOf(t, &key, moved)
		return v
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawn != t || !slices.Equal(p.moved, moved) {
		p.drawn, p.moved, p.layout = t, moved, pictureOf(t, nil, moved)
		p.layout.html = section{"picture", "picture", p.layout}.html()
	}
	v.Picture = p.layout
	return v
}

// KeyParam is the parameter of the page that names a key whose place it shows.
const KeyParam = "key"

// ServePage serves the page. pools are the names of all pools of the process, if it has pools.
func (p *Page) ServePage(w http.ResponseWriter, r *http.Request, pools []string) {
	var asked *string
	if of := r.URL.Query(); of.Has(KeyParam) {
		key := of.Get(KeyParam)
		asked = &key
	}
	v := p.look(asked)
	v.Lists = p.source.lists(r.Context(), v.State)
	v.Pools = pools
	serve(w, "page", v)
}

// ServePools serves a list of the pools of a process.
func ServePools(w http.ResponseWriter, pools []string) { serve(w, "pools", pools) }

// serve answers with what a template makes of data.
func serve(w http.ResponseWriter, name string, data any) {
	var out bytes.Buffer
	protect(w)
	if err := templates.ExecuteTemplate(&out, name, data); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(out.Bytes())
}

// section is a part of the page that events replace.
type section struct {
	ID, Template string
	Data         any
}

// sections are all parts of the page that change.
func (v *view) sections() []section {
	all := []section{
		{"facts", "facts", v}, {"problems", "problems", v}, {"progress", "progress", v}, {"tiles", "tiles", v},
		{"events", "events", v},
	}
	if of := v.Operate(); of != nil {
		all = append(all, section{"orders", "orders", of})
	}
	for _, s := range append([]*Sheet{v.Nodes}, v.Lists...) {
		all = append(all, s.sections()...)
	}
	if v.Picture != nil {
		all = append(all, section{"picture", "picture", v.Picture})
	}
	return all
}

// sections are the parts of a list that change.
func (s *Sheet) sections() []section {
	return []section{{s.ID + "-rows", "rows", s}, {s.ID + "-more", "more", s}}
}

// html returns what a section's template makes of its data.
func (s section) html() string {
	if drawn, ok := s.Data.(*Picture); ok && drawn.html != "" {
		return drawn.html // a ring of many nodes has a thousand arcs
	}
	var out bytes.Buffer
	if err := templates.ExecuteTemplate(&out, s.Template, s.Data); err != nil {
		return template.HTMLEscapeString(err.Error())
	}
	return out.String()
}

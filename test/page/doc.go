// Package page holds the tests of the page in a browser, headless Chromium, and what the page shows there if no
// keyway runs behind it: figures of any number of nodes that tests can change.
package page

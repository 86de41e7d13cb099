// Package migrate brings keys to where a layout places them. It owns full scans of nodes:
// which keys lie elsewhere than a routing table says (Verify), which keys move from one
// layout to another (Migrate), and how fast they move. Package move moves them.
package migrate

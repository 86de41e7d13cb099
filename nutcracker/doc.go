// Package nutcracker owns what keyway knows of twemproxy's configuration files: it reads
// them, and writes keyway's configuration of a pool, with a comment on each value and a warning
// of each difference. It opens no file, and knows no other package of keyway but the hashes.
package nutcracker

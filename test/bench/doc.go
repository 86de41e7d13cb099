// Package bench owns the measurements of what a request costs: beside twemproxy, and while nodes, clients,
// rules and pipelines grow (make bench), and the count of instructions that each change is compared with.
package bench

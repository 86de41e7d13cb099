package config

import (
	"strconv"

	"gopkg.in/yaml.v3"
)

// Threads is the number of event loops, or AutoThreads.
type Threads int

// AutoThreads is `threads: auto`.
const AutoThreads Threads = -1

// maxThreads is the largest number of event loops.
const maxThreads = 256

// Count returns the number of event loops. processors is the number that AutoThreads stands for.
func (n Threads) Count(processors int) int {
	if n == AutoThreads {
		return min(processors, maxThreads)
	}
	return int(n)
}

// String returns the number as it can be written in a file.
func (n Threads) String() string {
	if n == AutoThreads {
		return "auto"
	}
	return strconv.Itoa(int(n))
}

func (d *decoder) threads(n *yaml.Node, p *Threads, path string) error {
	s, err := d.scalar(n, path)
	if err != nil {
		return err
	}
	if s == "auto" {
		*p = AutoThreads
		return nil
	}
	i, err := strconv.Atoi(s)
	if err != nil {
		return d.errorf(n, path, "write a whole number from 1 to 256, or auto", "%q is not a whole number", s)
	}
	if *p = Threads(i); *p == AutoThreads {
		*p = 0 // out of range, as any other number below 1
	}
	return nil
}

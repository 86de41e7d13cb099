// Package config owns the YAML file: its whole shape, its defaults, strict
// decoding, values from the environment, and errors that name file, line and
// what to write instead.
//
// It knows nothing of the rest of the program. What needs more than the file
// to be judged (do rules overlap, does a hash exist) is judged by whoever
// builds it, who reports it with [Config.Errorf] at the place in the file.
package config

// Package config owns the configuration file: its keys, their defaults and bounds,
// strict decoding, references to the environment, and errors that name the file, the
// line, and what to write instead.
//
// It does not know the rest of the program. Other packages check what depends on them,
// such as overlapping rules or the name of a hash, and report errors with
// [Config.Errorf] at the right place in the file.
package config

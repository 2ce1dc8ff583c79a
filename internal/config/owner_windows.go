package config

import "io/fs"

// On Windows the access list of the user's profile keeps others out; Go's mode
// bits say nothing about it.
func ownerTrusted(fs.FileInfo) bool { return true }

func worldWritable(fs.FileInfo) bool { return false }

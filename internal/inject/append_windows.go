package inject

import "io/fs"

const noFollow = 0 // only an administrator or a developer may make links there

// checkOwner relies on the access control list of the runner's own folder.
func checkOwner(string, fs.FileInfo) error { return nil }

package inject

import (
	"bytes"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"path/filepath"
)

const (
	maxBundle      = 16 << 20 // bytes read of one file of authorities
	maxDirFiles    = 2000     // files read of one folder of authorities
	certificatePEM = "CERTIFICATE"
)

// systemBundles are the files in which a system may keep its authorities, the
// first that there is counts. Windows has none.
func systemBundles(goos string) []string {
	switch goos {
	case "windows":
		return nil
	case "darwin":
		return []string{"/etc/ssl/cert.pem"}
	}
	return []string{
		"/etc/ssl/certs/ca-certificates.crt",                // Debian, Arch, Alpine
		"/etc/pki/tls/certs/ca-bundle.crt",                  // Fedora
		"/etc/ssl/ca-bundle.pem",                            // openSUSE
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // CentOS
		"/etc/ssl/cert.pem",
		"/usr/local/etc/ssl/cert.pem", // FreeBSD
		"/usr/local/share/certs/ca-root-nss.crt",
	}
}

func firstFile(files []string) string {
	for _, f := range files {
		if st, err := os.Stat(f); err == nil && st.Mode().IsRegular() {
			return f
		}
	}
	return ""
}

func filesIn(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var files []string
	for _, e := range entries[:min(len(entries), maxDirFiles)] {
		files = append(files, filepath.Join(dir, e.Name()))
	}
	return files
}

// certificates copies the certificates of a file and of more files, each once,
// and nothing else: no key that somebody keeps beside them. What cannot be read
// counts as empty, as the programs that are to read it have to say so.
func certificates(file string, more []string) []byte {
	var out bytes.Buffer
	seen := map[string]bool{}
	for _, name := range append([]string{file}, more...) {
		rest := read(name)
		out.Grow(len(rest))
		for {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			if block.Type != certificatePEM || seen[string(block.Bytes)] {
				continue
			}
			seen[string(block.Bytes)] = true
			_ = pem.Encode(&out, &pem.Block{Type: certificatePEM, Bytes: block.Bytes})
		}
	}
	return out.Bytes()
}

func read(name string) []byte {
	if name == "" {
		return nil
	}
	st, err := os.Stat(name)
	if err != nil || !st.Mode().IsRegular() {
		return nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	data := make([]byte, min(st.Size(), maxBundle))
	n, err := io.ReadFull(f, data)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil
	}
	return data[:n]
}

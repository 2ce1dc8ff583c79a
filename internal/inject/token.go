package inject

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/apiauth/apiauth/internal/secret"
)

// SpotifySDK returns the token in the form that @spotify/web-api-ts-sdk 1.2.0
// takes (its type AccessToken, read on 2026-11-21): expires_in is the seconds
// that are left now, one at least, expires the end in milliseconds since 1970.
// The refresh token is empty on purpose: the SDK would rotate a real one behind
// our back. A token whose expiry is not known is given an hour.
func SpotifySDK(token secret.Text, expires, now time.Time) ([]byte, error) {
	if expires.IsZero() {
		expires = now.Add(time.Hour)
	}
	return indented(struct {
		AccessToken  string `json:"access_token"`
		TokenType    string `json:"token_type"`
		ExpiresIn    int64  `json:"expires_in"`
		RefreshToken string `json:"refresh_token"`
		Expires      int64  `json:"expires"`
	}{token.Reveal(), "Bearer", max(int64(expires.Sub(now)/time.Second), 1), "", expires.UnixMilli()})
}

// The versions of ExecCredential that are written.
const (
	execV1      = "client.authentication.k8s.io/v1"
	execV1beta1 = "client.authentication.k8s.io/v1beta1"
)

// ExecCredential returns the token as a Kubernetes client takes it from an exec
// plugin (client.authentication.k8s.io). info is what the client put into
// KUBERNETES_EXEC_INFO: its apiVersion, v1 or v1beta1, is the one to answer in.
// Empty means v1. The expiry is left out where none is known.
func ExecCredential(info string, token secret.Text, expires time.Time) ([]byte, error) {
	version := execV1
	if info != "" {
		var asked struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
		}
		if json.Unmarshal([]byte(info), &asked) != nil || asked.Kind != "ExecCredential" {
			return nil, errors.New("KUBERNETES_EXEC_INFO holds no ExecCredential")
		}
		if asked.APIVersion != execV1 && asked.APIVersion != execV1beta1 {
			return nil, fmt.Errorf("KUBERNETES_EXEC_INFO asks for a version of ExecCredential other than %s and %s", execV1, execV1beta1)
		}
		version = asked.APIVersion
	}
	type status struct {
		Expires *time.Time `json:"expirationTimestamp,omitempty"`
		Token   string     `json:"token"`
	}
	s := status{Token: token.Reveal()}
	if !expires.IsZero() {
		at := expires.UTC().Truncate(time.Second)
		s.Expires = &at
	}
	return indented(struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Status     status `json:"status"`
	}{version, "ExecCredential", s})
}

// Machine is one line of a netrc file.
type Machine struct {
	Host     string // without a port, which netrc has no place for
	Login    string
	Password string
}

// Netrc returns lines of a netrc file, as curl, git, Python and wget read them.
// A value that not all of them read alike (empty, a blank, a quote, a backslash,
// a number sign in front, what is not printable ASCII) is a *ValueError.
func Netrc(connection string, machines []Machine) ([]byte, error) {
	var b strings.Builder
	for _, m := range machines {
		for _, v := range []string{m.Host, m.Login, m.Password} {
			if v == "" || v[0] == '#' || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '"' || r == '\'' || r == '\\' }) {
				return nil, &ValueError{"the netrc entry", connection, "netrc", "is empty or holds a blank, a quote, a backslash, a leading # or what is not printable ASCII"}
			}
		}
		fmt.Fprintf(&b, "machine %s login %s password %s\n", m.Host, m.Login, m.Password)
	}
	return []byte(b.String()), nil
}

func indented(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return b.Bytes(), err
}

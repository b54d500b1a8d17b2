// Follows a service over the config socket: node client.mjs SOCKET SERVICE
import net from "node:net";
import readline from "node:readline";

// Calls use(endpoint) with what is active now and after every switch; endpoint is null while
// nothing is alive. When the sidecar goes, the last endpoint stays in use.
export function follow(path, service, use, latest = "") {
  const socket = net.connect(path);
  const say = (message) => socket.write(JSON.stringify(message) + "\n");
  socket.on("connect", () => say({ id: 1, op: "subscribe", service }));
  socket.on("error", () => {});
  socket.on("close", () => setTimeout(follow, 500 + Math.random() * 500, path, service, use, latest));
  readline.createInterface({ input: socket }).on("line", (line) => {
    const { endpoint, gen, seq } = JSON.parse(line);
    if (endpoint === undefined || latest === `${gen} ${seq}`) return;
    latest = `${gen} ${seq}`;
    use(endpoint);
    say({ op: "ack", service, gen, seq });
  }).on("error", () => {});
}

if (process.argv[1] === new URL(import.meta.url).pathname)
  follow(process.argv[2], process.argv[3], (endpoint) => console.log(endpoint?.id ?? null));

// A broadcast with better-sse as its documentation shows it: one channel, one session for each client.
//   node better.mjs PORT PACKAGE     (orders on stdin as for broadcast.c)
import http from "node:http";
import readline from "node:readline";

const [port, folder] = process.argv.slice(2);
const { createChannel, createSession } = await import(folder);
const channel = createChannel();

const server = http.createServer(async (request, response) => {
  channel.register(await createSession(request, response));
});
server.listen({ port: Number(port), host: "127.0.0.1", backlog: 4096 }, () => console.log("/\n"));

let timer;
function publish(rate, count, size) {
  clearTimeout(timer);
  const start = performance.now();
  let sent = 0;
  const turn = () => {
    while ((!count || sent < count) && performance.now() >= start + (sent * 1000) / rate) {
      channel.broadcast({ pad: "x".repeat(size - 10) }, "job");
      sent++;
    }
    if (!count || sent < count) timer = setTimeout(turn, start + (sent * 1000) / rate - performance.now());
  };
  turn();
}

const orders = readline.createInterface({ input: process.stdin });
orders.on("line", (order) => publish(...order.split(" ").slice(1).map(Number)));
orders.on("close", () => process.exit(0));

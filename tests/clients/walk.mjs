// The official client of Node, unchanged, on the whole road. Arguments: base URL, training file, batch file.
import fs from "node:fs";
import OpenAI from "openai";

const [baseURL, training, batchFile] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "sk-clients", maxRetries: 0 });
const nap = () => new Promise((done) => setTimeout(done, 50));
const said = {};

const file = await client.files.create({ file: fs.createReadStream(training), purpose: "fine-tune" });
let job = await client.fineTuning.jobs.create({
  model: "pricer-base",
  training_file: file.id,
  seed: 1,
  suffix: "node",
  method: { type: "supervised", supervised: { hyperparameters: { n_epochs: 5 } } },
});
while (!["succeeded", "failed", "cancelled"].includes(job.status)) {
  await nap();
  job = await client.fineTuning.jobs.retrieve(job.id);
}
said.status = job.status;
said.events = 0;
for await (const event of client.fineTuning.jobs.listEvents(job.id, { limit: 20 })) {
  said.events += event.object === "fine_tuning.job.event";
}
said.checkpoints = (await client.fineTuning.jobs.checkpoints.list(job.id)).data.length;
const messages = [{ role: "user", content: "A large desk of oak" }];
const whole = await client.chat.completions.create({ model: job.fine_tuned_model, messages, temperature: 0 });
said.reply = whole.choices[0].message.content;
said.streamed = "";
const stream = await client.chat.completions.create({
  model: job.fine_tuned_model,
  messages,
  temperature: 0,
  stream: true,
});
for await (const chunk of stream) said.streamed += chunk.choices[0]?.delta?.content ?? "";
fs.writeFileSync(batchFile, fs.readFileSync(batchFile, "utf8").replaceAll("MODEL", job.fine_tuned_model));
const input = await client.files.create({ file: fs.createReadStream(batchFile), purpose: "batch" });
let batch = await client.batches.create({
  input_file_id: input.id,
  endpoint: "/v1/chat/completions",
  completion_window: "24h",
});
while (!["completed", "failed", "expired", "cancelled"].includes(batch.status)) {
  await nap();
  batch = await client.batches.retrieve(batch.id);
}
said.batch = batch.status;
said.output = (await (await client.files.content(batch.output_file_id)).text()).trim().split("\n").length;
console.log(JSON.stringify(said));

// Holds an OpenRPC document, the argument, to the specification's own meta-schema. Prints what is
// wrong with it: [] for nothing.

const Ajv = require("ajv").default;
const { openrpcDocument } = require("@open-rpc/meta-schema");
const jsonSchema = require("@json-schema-tools/meta-schema");

const ajv = new Ajv({ strict: false, allErrors: true, validateFormats: false });
ajv.addSchema(jsonSchema.default ?? jsonSchema, "https://meta.json-schema.tools");
const check = ajv.compile(openrpcDocument);
check(JSON.parse(process.argv[2]));
console.log(JSON.stringify(check.errors ?? []));
